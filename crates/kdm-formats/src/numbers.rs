//! Types of numbers that files have, and each as f32.

use kdm_data::view;

/// How a number lies in a file, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    F64,
    F32,
    F16,
    BF16,
    /// 1 sign, 4 exponent and 3 mantissa bits; no infinity.
    F8E4M3,
    /// As `F8E4M3`, with a bias of 8, no negative zero and one NaN.
    F8E4M3Fnuz,
    /// The upper half of an f16.
    F8E5M2,
    /// As `F8E5M2`, with a bias of 16, no infinity, no negative zero and one NaN.
    F8E5M2Fnuz,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

impl Number {
    /// By PyTorch's name: of a type (`torch.bfloat16`) or a storage (`torch.BFloat16Storage`).
    pub fn of_torch(name: &str) -> Option<Self> {
        let name = name.strip_prefix("torch.")?;
        Some(match name.strip_prefix("cuda.").unwrap_or(name) {
            "float64" | "double" | "DoubleStorage" => Self::F64,
            "float32" | "float" | "FloatStorage" => Self::F32,
            "float16" | "half" | "HalfStorage" => Self::F16,
            "bfloat16" | "BFloat16Storage" => Self::BF16,
            "float8_e4m3fn" => Self::F8E4M3,
            "float8_e4m3fnuz" => Self::F8E4M3Fnuz,
            "float8_e5m2" => Self::F8E5M2,
            "float8_e5m2fnuz" => Self::F8E5M2Fnuz,
            "int64" | "long" | "LongStorage" => Self::I64,
            "int32" | "int" | "IntStorage" => Self::I32,
            "int16" | "short" | "ShortStorage" => Self::I16,
            "int8" | "CharStorage" => Self::I8,
            "uint64" => Self::U64,
            "uint32" => Self::U32,
            "uint16" => Self::U16,
            "uint8" | "ByteStorage" => Self::U8,
            "bool" | "BoolStorage" => Self::Bool,
            _ => return None,
        })
    }

    /// By NumPy's name, little-endian.
    pub fn of_numpy(descr: &str) -> Option<Self> {
        Some(match descr {
            "<f8" => Self::F64,
            "<f4" => Self::F32,
            "<f2" => Self::F16,
            "<i8" => Self::I64,
            "<i4" => Self::I32,
            "<i2" => Self::I16,
            "|i1" => Self::I8,
            "<u8" => Self::U64,
            "<u4" => Self::U32,
            "<u2" => Self::U16,
            "|u1" => Self::U8,
            "|b1" => Self::Bool,
            _ => return None,
        })
    }

    /// By the name that a safetensors header has.
    pub fn of_safetensors(name: &str) -> Option<Self> {
        Some(match name {
            "F64" => Self::F64,
            "F32" => Self::F32,
            "F16" => Self::F16,
            "BF16" => Self::BF16,
            "F8_E4M3" => Self::F8E4M3,
            "F8_E4M3FNUZ" => Self::F8E4M3Fnuz,
            "F8_E5M2" => Self::F8E5M2,
            "F8_E5M2FNUZ" => Self::F8E5M2Fnuz,
            "I64" => Self::I64,
            "I32" => Self::I32,
            "I16" => Self::I16,
            "I8" => Self::I8,
            "U64" => Self::U64,
            "U32" => Self::U32,
            "U16" => Self::U16,
            "U8" => Self::U8,
            "BOOL" => Self::Bool,
            _ => return None,
        })
    }

    /// The same among the types that arrays are read as row by row; floats of 8 bits are none.
    pub fn in_view(self) -> Option<view::Number> {
        use view::Number::{Bool, Brain, Float, Int, Uint};
        Some(match self {
            Self::F64 => Float(8),
            Self::F32 => Float(4),
            Self::F16 => Float(2),
            Self::BF16 => Brain,
            Self::I64 | Self::I32 | Self::I16 | Self::I8 => Int(self.width() as u8),
            Self::U64 | Self::U32 | Self::U16 | Self::U8 => Uint(self.width() as u8),
            Self::Bool => Bool,
            Self::F8E4M3 | Self::F8E4M3Fnuz | Self::F8E5M2 | Self::F8E5M2Fnuz => return None,
        })
    }

    /// Bytes a number.
    pub fn width(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            _ => 1,
        }
    }

    /// Whether weights can be such numbers; whole numbers are counters and flags.
    pub fn is_float(self) -> bool {
        use Number::{BF16, F8E4M3, F8E4M3Fnuz, F8E5M2, F8E5M2Fnuz, F16, F32, F64};
        matches!(self, F64 | F32 | F16 | BF16 | F8E4M3 | F8E4M3Fnuz | F8E5M2 | F8E5M2Fnuz)
    }

    /// One number as f32, from [`Self::width`] bytes.
    pub fn decode(self, bytes: &[u8]) -> f32 {
        fn fixed<const W: usize>(bytes: &[u8]) -> [u8; W] {
            bytes.try_into().expect("as many as the width")
        }
        match self {
            Self::F64 => f64::from_le_bytes(fixed(bytes)) as f32,
            Self::F32 => f32::from_le_bytes(fixed(bytes)),
            Self::F16 => half::f16::from_le_bytes(fixed(bytes)).to_f32(),
            Self::BF16 => half::bf16::from_le_bytes(fixed(bytes)).to_f32(),
            Self::F8E4M3 if bytes[0] & 0x7F == 0x7F => f32::NAN,
            Self::F8E4M3 => small(bytes[0], 3, 7),
            Self::F8E5M2 => half::f16::from_le_bytes([0, bytes[0]]).to_f32(),
            Self::F8E4M3Fnuz | Self::F8E5M2Fnuz if bytes[0] == 0x80 => f32::NAN,
            Self::F8E4M3Fnuz => small(bytes[0], 3, 8),
            Self::F8E5M2Fnuz => small(bytes[0], 2, 16),
            Self::I64 => i64::from_le_bytes(fixed(bytes)) as f32,
            Self::I32 => i32::from_le_bytes(fixed(bytes)) as f32,
            Self::I16 => i16::from_le_bytes(fixed(bytes)).into(),
            Self::I8 => i8::from_le_bytes(fixed(bytes)).into(),
            Self::U64 => u64::from_le_bytes(fixed(bytes)) as f32,
            Self::U32 => u32::from_le_bytes(fixed(bytes)) as f32,
            Self::U16 => u16::from_le_bytes(fixed(bytes)).into(),
            Self::U8 => bytes[0].into(),
            Self::Bool => (bytes[0] != 0).into(),
        }
    }

    /// Numbers that lie one after the other, as f32.
    pub fn decode_all(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            _ => bytes.chunks_exact(self.width()).map(|b| self.decode(b)).collect(),
        }
    }
}

/// A number of 8 bits with this many mantissa bits and this bias, none of which stands for
/// anything but a number.
fn small(byte: u8, mantissa_bits: i32, bias: i32) -> f32 {
    let mantissa = f32::from(byte & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits) as f32;
    let exponent = i32::from((byte & 0x7F) >> mantissa_bits);
    let size = match exponent {
        0 => mantissa * 2f32.powi(1 - bias),
        _ => (1.0 + mantissa) * 2f32.powi(exponent - bias),
    };
    if byte & 0x80 == 0 { size } else { -size }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of the formats' definitions (Micikevicius et al., "FP8 formats for deep learning",
    /// table 1; the `fnuz` kinds from the note that PyTorch's `Float8_e4m3fnuz.h` refers to).
    #[test]
    fn floats_of_eight_bits_have_their_defined_values() {
        let one = |number: Number, byte: u8| number.decode(&[byte]);
        assert_eq!(one(Number::F8E4M3, 0x7E), 448.0);
        assert_eq!(one(Number::F8E4M3, 0x08), 2f32.powi(-6));
        assert_eq!(one(Number::F8E4M3, 0x01), 2f32.powi(-9));
        assert_eq!(one(Number::F8E4M3, 0xB8), -1.0);
        assert!(one(Number::F8E4M3, 0x7F).is_nan() && one(Number::F8E4M3, 0xFF).is_nan());
        assert_eq!(one(Number::F8E5M2, 0x7B), 57344.0);
        assert_eq!(one(Number::F8E5M2, 0x01), 2f32.powi(-16));
        assert_eq!(one(Number::F8E5M2, 0xFC), f32::NEG_INFINITY);
        assert_eq!(one(Number::F8E4M3Fnuz, 0x7F), 240.0);
        assert_eq!(one(Number::F8E4M3Fnuz, 0x40), 1.0);
        assert_eq!(one(Number::F8E5M2Fnuz, 0x7F), 57344.0);
        assert!(one(Number::F8E5M2Fnuz, 0x80).is_nan());
    }

    #[test]
    fn every_number_is_read_at_its_width() {
        let eight = 3.5f64.to_le_bytes();
        assert_eq!(Number::F64.decode_all(&[eight, eight].concat()), [3.5, 3.5]);
        assert_eq!(Number::BF16.decode_all(&[0x80, 0x3F]), [1.0]);
        assert_eq!(Number::F16.decode_all(&[0x00, 0x3C, 0x00, 0xBC]), [1.0, -1.0]);
        assert_eq!(Number::I64.decode_all(&(-7i64).to_le_bytes()), [-7.0]);
        assert_eq!(Number::of_torch("torch.cuda.HalfStorage"), Some(Number::F16));
        assert_eq!(Number::of_torch("torch.ComplexFloatStorage"), None);
        assert!(!Number::U8.is_float() && Number::F8E5M2.is_float());
    }
}
