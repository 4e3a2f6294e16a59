//! Studies of students: side by side, compressed, inverted, edited, explored, and beside exact
//! answers.

pub mod compare_students;
pub mod compress;
pub mod directions;
pub mod edit;
pub mod interpolate;
pub mod invert;
pub mod theory;
