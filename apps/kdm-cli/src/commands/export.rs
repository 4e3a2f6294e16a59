//! `kdm export`: models for other programs, under the names of their original implementations or as
//! ONNX.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use kdm::data::output::FileKind;
use kdm::formats::onnx::{OnnxOptions, Precision, export_denoiser, export_onnx};
use kdm::teacher::Teacher;
use kdm::{Context, Failure, LoadedStudent, Outcome, assets};
use kdm::{data, formats};

use super::output::{Replace, folder, print};

/// Flags of `kdm export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The student's, teacher's or discriminator's file, or one that ships, such as
    /// fashion-mnist-student
    #[arg(long, value_name = "M")]
    model: PathBuf,
    /// What to write [default: as the name in --out ends]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<FormatName>,
    /// The file to write, .safetensors or .onnx; with --parts a folder
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// ONNX: encoder, operator and decoder as a file each
    #[arg(long)]
    parts: bool,
    /// ONNX: how weights are stored; results are computed in f32 in both
    #[arg(long, value_enum, default_value = "f32", value_name = "TYPE")]
    dtype: Dtype,
    #[command(flatten)]
    replace: Replace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatName {
    /// A state dict with the original's names, .safetensors
    Original,
    /// A graph that onnxruntime draws with, .onnx
    Onnx,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Dtype {
    /// As they are
    F32,
    /// Half the file
    F16,
}

impl Args {
    /// Runs the command.
    pub fn run(self, context: Context) -> Outcome<()> {
        let onnx = self.parts || self.out.extension().is_some_and(|e| e == "onnx");
        let format =
            self.format.unwrap_or(if onnx { FormatName::Onnx } else { FormatName::Original });
        match format {
            FormatName::Onnx => self.onnx(context),
            FormatName::Original => self.original(context),
        }
    }

    fn original(&self, context: Context) -> Outcome<()> {
        if self.parts || self.dtype != Dtype::F32 {
            let problem = "--parts and --dtype are for ONNX";
            return Err(Failure::Usage(format!("{problem}; add --format onnx, or leave them out")));
        }
        self.check_name("safetensors", "a .safetensors or an .onnx file")?;
        self.replace.file(&self.out, FileKind::Tensors, &[Some(&self.model)])?;
        let model = assets::open_any(&self.model)?;
        let told = formats::export_file(&model, &self.out, context.device())?;
        print(&format!("{told}, in {}\n", self.out.display()))
    }

    fn onnx(&self, context: Context) -> Outcome<()> {
        let input: [Option<&Path>; 1] = [Some(&self.model)];
        if self.parts {
            folder(&self.out, &input)?;
            for part in ["encoder.onnx", "operator.onnx", "decoder.onnx"] {
                self.replace.file(&self.out.join(part), FileKind::Onnx, &input)?;
            }
        } else {
            self.check_name("onnx", "an .onnx file")?;
            self.replace.file(&self.out, FileKind::Onnx, &input)?;
        }
        let precision = if self.dtype == Dtype::F16 { Precision::F16 } else { Precision::F32 };
        if let Some(teacher) = self.teacher(context)? {
            return self.denoiser(&teacher, precision);
        }
        let student = LoadedStudent::open(&self.model, context.device())?;
        let class_names = student.class_names();
        let options = OnnxOptions { parts: self.parts, precision, class_names };
        let written =
            export_onnx(&student.file, &student.student, &student.path, &self.out, &options)?;
        let written: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
        print(&format!("{}\n", written.join("\n")))
    }

    /// The model as a teacher; none where it is another kind of model.
    fn teacher(&self, context: Context) -> Outcome<Option<Teacher>> {
        // What can't be opened so may be a student's name.
        let Ok(file) = assets::open_any(&self.model) else { return Ok(None) };
        if file.metadata()["kind"] != kdm::teacher::teacher::KIND {
            return Ok(None);
        }
        Ok(Some(Teacher::from_file(&file, context.device())?))
    }

    fn denoiser(&self, teacher: &Teacher, precision: Precision) -> Outcome<()> {
        if self.parts {
            let problem = "--parts: a teacher is one network; leave it out";
            return Err(Failure::Usage(problem.into()));
        }
        let Some((config, network)) = teacher.network() else {
            let problem = "is a teacher of points, whose denoiser is no image network";
            let action = "export a student instead";
            return Err(data::Error::invalid(&self.model, "kind", problem, action).into());
        };
        let class_names = teacher.stamp().names_of_classes();
        let options = OnnxOptions { precision, class_names, ..OnnxOptions::default() };
        export_denoiser(config, network, &self.model, &self.out, &options)?;
        print(&format!("{}\n", self.out.display()))
    }

    fn check_name(&self, extension: &str, what: &str) -> Outcome<()> {
        if self.out.extension().is_some_and(|e| e == extension) {
            return Ok(());
        }
        Err(Failure::Usage(format!("--out {}: name {what}", self.out.display())))
    }
}
