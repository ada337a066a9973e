//! Identifying this host's CPU.

use raw_cpuid::CpuId;

/// The model and features of the CPU, as one line. It is read with CPUID: /proc/cpuinfo lists every CPU, which
/// takes milliseconds on a large machine.
pub fn model() -> String {
    let cpu = CpuId::new();
    let brand = cpu.get_processor_brand_string();
    let brand = brand.as_ref().map_or("", |brand| brand.as_str().trim());
    // Family, model and stepping, then the feature words, without what varies: EBX of leaf 1 contains the
    // number of the current CPU, and the kernel sets bit 27 of ECX.
    let (basic, extended) = (raw_cpuid::cpuid!(1), raw_cpuid::cpuid!(7, 0));
    let words =
        [basic.eax, basic.ecx & !(1 << 27), basic.edx, extended.ebx, extended.ecx, extended.edx];
    let words: Vec<String> = words.iter().map(|word| format!("{word:08x}")).collect();
    format!("{brand} {}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_every_time_on_every_cpu() {
        let first = model();
        assert!(first.len() > 6 * 9, "{first}");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert_eq!(model(), first));
            }
        });
    }
}
