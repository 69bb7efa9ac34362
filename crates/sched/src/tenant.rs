//! Who pays for requests.

use std::fmt;
use std::str::FromStr;

/// Who pays for a request. Zero is the default tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub u64);

/// A tenant and its share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tenant {
    /// Which one.
    pub id: TenantId,
    /// How much of the machine it gets beside others that have work waiting. That of its latest request holds.
    pub weight: Weight,
}

/// Share of a tenant in relation to those of others: 0.001 to 1000, in thousandths. The default is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(u32);

impl Weight {
    /// Thousandths, 1 to 1,000,000.
    pub fn thousandths(self) -> u32 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(1000)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (f64::from(self.0) / 1000.0).fmt(f)
    }
}

/// A number that is no share.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("weight {0} is not a number from 0.001 to 1000")]
pub struct InvalidWeight(String);

impl TryFrom<f64> for Weight {
    type Error = InvalidWeight;

    fn try_from(value: f64) -> Result<Self, Self::Error> {
        let in_range = (0.001..=1000.0).contains(&value);
        if in_range {
            Ok(Self((value * 1000.0).round() as u32))
        } else {
            Err(InvalidWeight(value.to_string()))
        }
    }
}

impl FromStr for Weight {
    type Err = InvalidWeight;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<f64>().map_err(|_| InvalidWeight(text.to_owned()))?.try_into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_positive_numbers_within_reason_are_shares() {
        for text in ["0", "-1", "NaN", "inf", "1e9", "0.0001", "", "two"] {
            assert_eq!(text.parse::<Weight>().unwrap_err().0.is_empty(), text.is_empty(), "{text}");
        }
        assert_eq!("0.001".parse::<Weight>().map(Weight::thousandths), Ok(1));
        assert_eq!("2.5".parse::<Weight>().map(|weight| weight.to_string()), Ok("2.5".to_owned()));
        assert_eq!("1000".parse::<Weight>().map(Weight::thousandths), Ok(1_000_000));
    }
}
