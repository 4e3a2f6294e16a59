//! Children of a module with names of their own: so weights keep the names of the files that they
//! come from, whatever a module's fields are called.

use burn::module::{
    Content, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
};
use burn::tensor::Device;

/// Children with names of their own, such as `32x32_block0`, in order. A child's weights have names
/// that begin with its own, in [`state_dict`](crate::state::state_dict).
#[derive(Clone, Debug)]
pub struct Named<T>(pub Vec<(String, T)>);

impl<T> Named<T> {
    /// The children in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.0.iter().map(|(_, child)| child)
    }

    fn convert(self, mut each: impl FnMut(T) -> T) -> Self {
        Self(self.0.into_iter().map(|(name, child)| (name, each(child))).collect())
    }
}

impl<T: Module + std::fmt::Debug + Send + Clone> Module for Named<T> {
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        for (name, child) in &self.0 {
            visitor.enter_module(name, "Named");
            child.visit(visitor);
            visitor.exit_module(name, "Named");
        }
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let each = |(name, child): (String, T)| {
            mapper.enter_module(&name, "Named");
            let child = child.map(mapper);
            mapper.exit_module(&name, "Named");
            (name, child)
        };
        Self(self.0.into_iter().map(each).collect())
    }

    fn to_device(self, device: &Device) -> Self {
        self.convert(|child| child.to_device(device))
    }

    fn fork(self, device: &Device) -> Self {
        self.convert(|child| child.fork(device))
    }

    fn collect_devices(&self, devices: Vec<Device>) -> Vec<Device> {
        self.iter().fold(devices, |devices, child| child.collect_devices(devices))
    }

    fn valid(&self) -> Self {
        Self(self.0.iter().map(|(name, child)| (name.clone(), child.valid())).collect())
    }

    fn train(self) -> Self {
        self.convert(Module::train)
    }

    fn materialize(self) -> Self {
        self.convert(Module::materialize)
    }
}

impl<T: ModuleDisplay> ModuleDisplayDefault for Named<T> {
    fn content(&self, content: Content) -> Option<Content> {
        self.0.iter().fold(content, |content, (name, child)| content.add(name, child)).optional()
    }
}

impl<T: ModuleDisplay> ModuleDisplay for Named<T> {}
