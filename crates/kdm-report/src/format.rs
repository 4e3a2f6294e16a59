//! Numbers as text, and text as HTML.

use kdm_analysis::semantics::Correlation;

/// A number with four significant digits.
pub fn significant(value: f64) -> String {
    if value == 0.0 || (1e-3..1e5).contains(&value.abs()) {
        let digits = (3.0 - value.abs().max(1e-3).log10().floor()).clamp(0.0, 6.0) as usize;
        format!("{value:.digits$}")
    } else {
        format!("{value:.3e}")
    }
}

/// A share, 0 to 1, in percent; empty for none.
pub fn percent(share: impl Into<Option<f64>>) -> String {
    share.into().map_or_else(String::new, |share| format!("{:.1}%", 100.0 * share))
}

/// A correlation with its interval; empty for none.
pub fn correlation(found: Option<Correlation>) -> String {
    found.map_or_else(String::new, |c| {
        format!("{:.3} ({:.3} to {:.3})", c.value, c.interval.0, c.interval.1)
    })
}

/// Text as it stands in HTML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_digits_at_any_size() {
        assert_eq!(significant(0.0), "0.000000");
        assert_eq!(significant(0.012345), "0.01235");
        assert_eq!(significant(-1.5), "-1.500");
        assert_eq!(significant(12345.6), "12346");
        assert_eq!(significant(1.0e-5), "1.000e-5");
        assert_eq!(significant(2.5e5), "2.500e5");
        assert_eq!((percent(0.125).as_str(), percent(None).as_str()), ("12.5%", ""));
    }
}
