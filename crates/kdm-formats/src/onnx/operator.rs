//! Operators as nodes, and latents of several levels.

use std::ops::Range;

use kdm_koopman::Operator;
use kdm_koopman::operator::{LevelForm, LevelOperator, Levels, cosines};
use kdm_nn::state;

use super::graph::{Builder, Parameter, Value};

impl Builder {
    /// C z of flat rows: by a matrix, or level by level where there are levels.
    pub fn operator(&mut self, z: &str, operator: &Operator) -> Value {
        if let Some(levels) = operator.levels() {
            return self.level_operators(z, levels);
        }
        let affine = operator.matrix();
        let narrow = |values: &[f64]| values.iter().map(|x| *x as f32).collect::<Vec<f32>>();
        let (matrix, bias) = (narrow(&affine.matrix), narrow(&affine.bias));
        self.matrix(z, "operator", [affine.n; 2], [&matrix, &bias])
    }

    fn level_operators(&mut self, z: &str, levels: &Levels) -> Value {
        let shapes: Vec<[usize; 2]> = levels
            .levels
            .iter()
            .map(|level| [level.level().channels, level.level().side])
            .collect();
        let images = self.levels(z, &shapes);
        let moved = levels.levels.iter().zip(&images).enumerate();
        let moved: Vec<Value> = moved
            .map(|(i, (level, image))| self.level_operator(image, level, &format!("operator.{i}")))
            .collect();
        self.flattened(&moved, &shapes)
    }

    /// Images `[N, c, side, side]` by the operator of their level.
    fn level_operator(&mut self, images: &str, operator: &LevelOperator, name: &str) -> Value {
        let (c, side) = (operator.level().channels, operator.level().side);
        let state = state::state_dict(operator);
        let values = |part: &str| state[part].iter::<f32>().collect::<Vec<f32>>();
        let (weight, bias) = (values("weight"), values("bias"));
        if operator.form() == LevelForm::Shared {
            let weight = self.constant(&format!("{name}.weight"), &[c, c, 1, 1], &weight);
            let bias = self.constant(&format!("{name}.bias"), &[c], &bias);
            return self.node("Conv", &[images, &weight, &bias], &[]);
        }
        let basis = (operator.form() == LevelForm::Frequencies).then(|| {
            let by_rows: Vec<f32> = cosines(side).into_iter().map(|x| x as f32).collect();
            let turned: Vec<f32> =
                (0..side * side).map(|i| by_rows[i % side * side + i / side]).collect();
            [("cosines", by_rows), ("cosines_turned", turned)]
                .map(|(part, values)| self.exact(&format!("{name}.{part}"), &[side, side], &values))
        });
        // D x D^T there, D^T x D back.
        let around = |builder: &mut Self, x: &str, [left, right]: [&str; 2]| {
            let x = builder.node("MatMul", &[left, x], &[]);
            builder.node("MatMul", &[&x, right], &[])
        };
        let x = match &basis {
            Some([forth, back]) => around(self, images, [forth, back]),
            None => images.to_string(),
        };
        let places = (side * side) as i64;
        let x = self.reshape(&x, &[0, c as i64, places]);
        let x = self.node("Transpose", &[&x], &[("perm", Parameter::Ints(&[2, 1, 0]))]);
        // Of each place [c, c] times [c, N].
        let weight = self.constant(&format!("{name}.weight"), &[side * side, c, c], &weight);
        let x = self.node("MatMul", &[&weight, &x], &[]);
        let x = self.node("Transpose", &[&x], &[("perm", Parameter::Ints(&[2, 1, 0]))]);
        let x = self.reshape(&x, &[0, c as i64, side as i64, side as i64]);
        let x = match &basis {
            Some([forth, back]) => around(self, &x, [back, forth]),
            None => x,
        };
        let bias = self.constant(&format!("{name}.bias"), &[c, side, side], &bias);
        self.node("Add", &[&x, &bias], &[])
    }

    /// Flat rows as images of these channels and sides, which follow each other in a row.
    pub fn levels(&mut self, rows: &str, shapes: &[[usize; 2]]) -> Vec<Value> {
        let mut start = 0;
        let mut image = |[channels, side]: [usize; 2]| {
            let width = channels * side * side;
            let part = match shapes.len() {
                1 => rows.to_string(),
                _ => self.columns(rows, start..start + width),
            };
            start += width;
            self.reshape(&part, &[0, channels as i64, side as i64, side as i64])
        };
        shapes.iter().map(|shape| image(*shape)).collect()
    }

    /// The opposite of [`Self::levels`].
    pub fn flattened(&mut self, images: &[Value], shapes: &[[usize; 2]]) -> Value {
        let flat = |(image, [channels, side]): (&Value, &[usize; 2])| {
            self.reshape(image, &[0, (channels * side * side) as i64])
        };
        let flat: Vec<Value> = images.iter().zip(shapes).map(flat).collect();
        let parts: Vec<&str> = flat.iter().map(String::as_str).collect();
        match parts[..] {
            [only] => only.to_string(),
            _ => self.node("Concat", &parts, &[("axis", Parameter::Int(1))]),
        }
    }

    /// Columns of rows, or channels of images.
    pub fn columns(&mut self, x: &str, columns: Range<usize>) -> Value {
        let ends = [columns.start as i64, columns.end as i64, 1];
        let [start, end, axis] = ends.map(|i| self.integers(&[i]));
        self.node("Slice", &[x, &start, &end, &axis], &[])
    }
}
