//! Networks that look at images: classifiers, feature networks, perceptual distances, the
//! discriminator.

pub mod classifier;
mod direction_distance;
pub mod discriminator;
pub mod inception;
pub mod perceptual;
pub mod vgg;
