//! Classes as people give them: by name where names are known, or by number.

use crate::nearest::did_you_mean;
use crate::{Failure, Outcome};

/// The classes of a model or of a store.
#[derive(Clone, Copy, Debug)]
pub struct Classes<'a> {
    /// What has them, for messages: "this model".
    pub model: &'static str,
    /// How many there are; 0 for what is unconditional.
    pub count: usize,
    /// Their names in order; none where they are not known.
    pub names: &'a [String],
}

/// Names that a message lists.
const LISTED: usize = 20;

impl Classes<'_> {
    /// The class of this name (upper and lower case are the same), or else of this number.
    ///
    /// # Errors
    /// When there is none; the text begins with `flag`.
    pub fn find(&self, flag: &str, given: &str) -> Outcome<u32> {
        let Self { model, count, names } = *self;
        if count == 0 {
            return Err(Failure::Usage(format!("{flag}: {model} is unconditional; leave it out")));
        }
        let given = given.trim();
        let exact = names.iter().position(|name| name == given);
        let alike = || names.iter().position(|name| name.to_lowercase() == given.to_lowercase());
        let named = exact.or_else(alike).filter(|class| *class < count);
        let number = given.parse::<u32>().ok();
        match named.map(|class| class as u32).or(number) {
            Some(class) if (class as usize) < count => Ok(class),
            _ => {
                let meant = match number {
                    Some(_) => String::new(),
                    None => did_you_mean(given, names.iter().map(String::as_str)),
                };
                let known = self.listed();
                Err(Failure::Usage(format!("{flag} {given}: {model} has {known}{meant}")))
            }
        }
    }

    /// What there is to choose from.
    fn listed(&self) -> String {
        let names = &self.names[..self.names.len().min(self.count)];
        let shown: Vec<String> = names
            .iter()
            .take(LISTED)
            .enumerate()
            .map(|(class, name)| format!("{class} {name}"))
            .collect();
        let more = if names.len() > shown.len() { ", ..." } else { "" };
        let told = if shown.is_empty() { String::new() } else { format!(": {}", shown.join(", ")) };
        format!("the classes 0 to {}{told}{more}", self.count - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(names: &[String]) -> Classes<'_> {
        Classes { model: "this model", count: 3, names }
    }

    #[test]
    fn a_class_is_found_by_name_or_number() {
        let names = ["disc", "Ring", "10"].map(String::from);
        let find = |given| classes(&names).find("--class", given).unwrap();
        assert_eq!([find("disc"), find("ring"), find(" Ring"), find("1")], [0, 1, 1, 1]);
        // A name that is a number is a name.
        assert_eq!(find("10"), 2);
        let unnamed = classes(&[]);
        assert_eq!(unnamed.find("--class", "2").unwrap(), 2);
    }

    #[test]
    fn what_is_no_class_says_which_there_are() {
        let names = ["disc", "ring", "star"].map(String::from);
        let told = |given, names| classes(names).find("--class", given).unwrap_err().to_string();
        let message = told("rign", &names[..]);
        assert!(message.contains("--class rign") && message.contains("did you mean `ring`"));
        assert!(told("3", &names[..]).contains("0 to 2: 0 disc, 1 ring, 2 star"));
        assert!(told("-1", &[]).contains("classes 0 to 2"));
        let none = Classes { count: 0, ..classes(&[]) };
        assert!(none.find("--class", "0").unwrap_err().to_string().contains("unconditional"));
    }
}
