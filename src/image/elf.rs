//! Looks at a program's ELF header: for which machine it is, and whether it needs a loader.

use super::ImageError;

/// `EI_CLASS` 2, `EI_DATA` 1: 64 bits, little-endian (elf(5)).
const MAGIC_64_LE: &[u8] = b"\x7fELF\x02\x01";

/// Offsets in `Elf64_Ehdr` and the size of what is there.
const E_MACHINE: usize = 18;
const E_PHOFF: usize = 32;
const E_PHENTSIZE: usize = 54;
const E_PHNUM: usize = 56;

/// `PT_INTERP`: the program names a dynamic loader. A static one has none, also when it is
/// position-independent.
const PT_INTERP: u32 = 3;

/// The machines that images are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// `EM_X86_64`.
    X86_64,
    /// `EM_AARCH64`.
    Aarch64,
}

/// The machine of a static program.
///
/// # Errors
/// It is no ELF program of a known machine, or it is linked dynamically.
pub fn static_machine(binary: &[u8]) -> Result<Machine, ImageError> {
    if !binary.starts_with(MAGIC_64_LE) {
        return Err(ImageError::NotElf);
    }
    let machine = match number::<2>(binary, E_MACHINE)? {
        62 => Machine::X86_64,
        183 => Machine::Aarch64,
        other => return Err(ImageError::UnknownMachine(other)),
    };
    let headers = number::<8>(binary, E_PHOFF)?;
    let size = number::<2>(binary, E_PHENTSIZE)?;
    for index in 0..number::<2>(binary, E_PHNUM)? {
        let at = size.checked_mul(index).and_then(|offset| offset.checked_add(headers));
        let at = at.and_then(|at| usize::try_from(at).ok()).ok_or(ImageError::NotElf)?;
        if number::<4>(binary, at)? == u64::from(PT_INTERP) {
            return Err(ImageError::Dynamic);
        }
    }
    Ok(machine)
}

/// A little-endian number of `N` bytes, at most eight.
fn number<const N: usize>(binary: &[u8], at: usize) -> Result<u64, ImageError> {
    let bytes = at.checked_add(N).and_then(|end| binary.get(at..end)).ok_or(ImageError::NotElf)?;
    Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with one program header of this type.
    pub(super) fn elf(machine: u16, header_type: u32) -> Vec<u8> {
        let mut elf = vec![0; 64];
        elf[..MAGIC_64_LE.len()].copy_from_slice(MAGIC_64_LE);
        elf[E_MACHINE..E_MACHINE + 2].copy_from_slice(&machine.to_le_bytes());
        elf[E_PHOFF] = 64;
        elf[E_PHENTSIZE] = 56;
        elf[E_PHNUM] = 1;
        elf.extend(header_type.to_le_bytes());
        elf.extend([0; 52]);
        elf
    }

    #[test]
    fn the_machine_and_the_loader_are_seen() {
        assert_eq!(static_machine(&elf(62, 1)).unwrap(), Machine::X86_64);
        assert_eq!(static_machine(&elf(183, 2)).unwrap(), Machine::Aarch64);
        assert!(matches!(static_machine(&elf(62, PT_INTERP)), Err(ImageError::Dynamic)));
        assert!(matches!(static_machine(&elf(3, 1)), Err(ImageError::UnknownMachine(3))));
    }

    #[test]
    fn torn_and_foreign_programs_are_refused() {
        let whole = elf(62, 1);
        for length in 0..68 {
            let result = static_machine(&whole[..length]);
            assert!(matches!(result, Err(ImageError::NotElf)), "{length}: {result:?}");
        }
        let mut far = whole;
        far[E_PHOFF..E_PHOFF + 8].fill(0xff);
        assert!(matches!(static_machine(&far), Err(ImageError::NotElf)));
        assert!(matches!(static_machine(b"#!/bin/sh\n"), Err(ImageError::NotElf)));
    }
}
