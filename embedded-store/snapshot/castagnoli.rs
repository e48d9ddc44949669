//! CRC-32C, which the status of a snapshot uses as etcd does.

#[derive(Clone, Copy)]
pub(super) struct Castagnoli(u32);

impl Default for Castagnoli {
    fn default() -> Self {
        Castagnoli(u32::MAX)
    }
}

impl Castagnoli {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut value = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ 0x82f6_3b78 } else { value >> 1 };
                bit += 1;
            }
            table[byte] = value;
            byte += 1;
        }
        table
    };

    pub(super) fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 >> 8 ^ Self::TABLE[usize::from(self.0 as u8 ^ byte)];
        }
    }

    pub(super) fn finish(self) -> u32 {
        !self.0
    }
}
