//! What graviola needs of a CPU: it panics on one that it can't use.

/// Whether this CPU can check signatures of public keys. HMAC needs no such CPU.
pub fn is_supported() -> bool {
    graviola::util::is_cpu_supported()
}

/// The instructions that this CPU lacks of those that public keys need, and TLS by the same library; `None` if it has
/// all.
pub fn lacking() -> Option<String> {
    lacking_of(is_supported(), &features())
}

/// Those that graviola's own check asks for, and whether this CPU has them.
#[cfg(target_arch = "x86_64")]
fn features() -> [(&'static str, bool); 6] {
    use std::arch::is_x86_feature_detected;
    [
        ("AES", is_x86_feature_detected!("aes")),
        ("PCLMULQDQ", is_x86_feature_detected!("pclmulqdq")),
        ("BMI1", is_x86_feature_detected!("bmi1")),
        ("ADX", is_x86_feature_detected!("adx")),
        ("AVX", is_x86_feature_detected!("avx")),
        ("AVX2", is_x86_feature_detected!("avx2")),
    ]
}

/// Those that graviola's own check asks for, and whether this CPU has them.
#[cfg(target_arch = "aarch64")]
fn features() -> [(&'static str, bool); 4] {
    use std::arch::is_aarch64_feature_detected;
    [
        ("NEON", is_aarch64_feature_detected!("neon")),
        ("AES", is_aarch64_feature_detected!("aes")),
        ("PMULL", is_aarch64_feature_detected!("pmull")),
        ("SHA2", is_aarch64_feature_detected!("sha2")),
    ]
}

/// The library decides; the list is for people.
fn lacking_of(is_supported: bool, features: &[(&str, bool)]) -> Option<String> {
    if is_supported {
        return None;
    }
    let lacking = features.iter().filter(|(_, is_there)| !is_there);
    let names: Vec<_> = lacking.map(|(name, _)| *name).collect();
    Some(match names.is_empty() {
        true => "instructions that all have since about 2014".into(),
        false => names.join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_named_where_the_library_refuses() {
        let features = [("AES", true), ("ADX", false), ("AVX2", false)];
        assert_eq!(lacking_of(false, &features).as_deref(), Some("ADX, AVX2"));
        assert_eq!(lacking_of(true, &features), None);
        let other = lacking_of(false, &features[..1]).unwrap();
        assert!(other.contains("since about 2014"), "{other}");
        // It refuses a CPU that lacks any of those that are named.
        let has_all = super::features().iter().all(|(_, is_there)| *is_there);
        assert_eq!(is_supported(), has_all);
        assert_eq!(lacking().is_none(), is_supported());
    }
}
