//! Bytes to send.
//!
//! Owns: payloads that do not compress and differ from each other.
//! Must not know: what carries them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Makes payloads of one size, each different; cheap enough for a hot loop.
#[derive(Debug, Clone)]
pub struct Payload {
    state: u64,
    bytes: Vec<u8>,
}

impl Payload {
    /// Payloads of `size` bytes.
    #[must_use]
    pub fn new(size: usize) -> Self {
        // An odd state never becomes zero, which xorshift could not leave.
        Self { state: rand::random::<u64>() | 1, bytes: vec![0; size] }
    }

    /// The next one.
    pub fn fill(&mut self) -> &[u8] {
        for chunk in self.bytes.chunks_mut(8) {
            // xorshift64*, Vigna 2014.
            self.state ^= self.state >> 12;
            self.state ^= self.state << 25;
            self.state ^= self.state >> 27;
            let word = self.state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes();
            let len = chunk.len();
            chunk.copy_from_slice(&word[..len]);
        }
        &self.bytes
    }

    /// The next one, in base64, behind what is in `out`.
    pub fn append_base64(&mut self, out: &mut String) {
        self.fill();
        STANDARD.encode_string(&self.bytes, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_their_size_and_differ() {
        for size in [0, 1, 7, 8, 9, 256] {
            let mut payload = Payload::new(size);
            let first = payload.fill().to_vec();
            assert_eq!(first.len(), size);
            assert!(size < 7 || first != payload.fill());
            let mut text = String::from("x");
            payload.append_base64(&mut text);
            assert_eq!(STANDARD.decode(&text[1..]).unwrap().len(), size);
        }
    }
}
