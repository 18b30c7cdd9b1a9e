//! The byte form of every value that is stored or sent between nodes.
//!
//! Owns: the protobuf encoding (<https://protobuf.dev/programming-guides/encoding/>) of domain types, written with
//! prost's primitives so that a field can be a validated newtype rather than a bare string or integer.
//! Must not know: what any value means.
//! Invariants: encoding is deterministic (fields in tag order, no maps); a decoder skips unknown fields, so version
//! N reads what N+1 wrote as long as it adds fields only; decoding never panics and allocates at most the input's size.

use bytes::{Buf, Bytes};
use prost::encoding::{self, DecodeContext, WireType};

/// Why bytes are not a value of the expected type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes are not well-formed protobuf.
    #[error("malformed protobuf: {0}")]
    Malformed(String),
    /// A field without a default is absent.
    #[error("field {0} is missing")]
    Missing(&'static str),
    /// A field is present but its value is outside its type.
    #[error("invalid {0}")]
    Invalid(&'static str),
}

impl From<prost::DecodeError> for WireError {
    fn from(error: prost::DecodeError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// A value with a protobuf message encoding.
pub trait Wire: Sized {
    /// Appends the message's fields to `buf`, without a length.
    fn encode_to(&self, buf: &mut Vec<u8>);
    /// Reads a message that takes up all of `bytes`.
    ///
    /// # Errors
    /// [`WireError`] when the bytes are malformed, a required field is absent or a value is out of range.
    fn decode_from(bytes: Bytes) -> Result<Self, WireError>;

    /// The message as bytes.
    fn to_wire(&self) -> Vec<u8> {
        let mut buf = Vec::with_capacity(128);
        self.encode_to(&mut buf);
        buf
    }

    /// [`Wire::decode_from`] for borrowed bytes.
    ///
    /// # Errors
    /// As [`Wire::decode_from`].
    fn from_wire(bytes: &[u8]) -> Result<Self, WireError> {
        Self::decode_from(Bytes::copy_from_slice(bytes))
    }
}

/// A value that can stand as a field of a message.
pub trait Field: Sized {
    /// Appends the field, tag included; may append nothing for a default.
    fn write(&self, tag: u32, buf: &mut Vec<u8>);
    /// Reads one occurrence of the field.
    ///
    /// # Errors
    /// As [`Wire::decode_from`].
    fn merge(slot: &mut Option<Self>, wire_type: WireType, buf: &mut Bytes) -> Result<(), WireError>;
    /// The value of an absent field, or `None` when the field is required.
    fn missing() -> Option<Self>;
}

/// Writes `tag`, then the length of what `body` appends, then that.
pub fn write_delimited(tag: u32, buf: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    encoding::encode_key(tag, WireType::LengthDelimited, buf);
    let start = buf.len();
    body(buf);
    let length = buf.len() - start;
    encoding::encode_varint(length as u64, buf);
    let prefix = buf.len() - start - length;
    buf[start..].rotate_right(prefix);
}

/// Takes a length-delimited field's content off `buf`.
///
/// # Errors
/// [`WireError::Malformed`] when the wire type or the length does not fit.
pub fn read_delimited(wire_type: WireType, buf: &mut Bytes) -> Result<Bytes, WireError> {
    encoding::check_wire_type(WireType::LengthDelimited, wire_type)?;
    let length = encoding::decode_varint(buf)?;
    match usize::try_from(length) {
        Ok(length) if length <= buf.remaining() => Ok(buf.split_to(length)),
        _ => Err(WireError::Malformed("length beyond the end".into())),
    }
}

/// Reads the next tag, or `None` at the end.
///
/// # Errors
/// [`WireError::Malformed`].
pub fn read_key(buf: &mut Bytes) -> Result<Option<(u32, WireType)>, WireError> {
    if buf.is_empty() {
        return Ok(None);
    }
    let (tag, wire_type) = encoding::decode_key(buf)?;
    Ok(Some((tag, wire_type)))
}

/// Skips a field this version does not know.
///
/// # Errors
/// [`WireError::Malformed`].
pub fn skip(tag: u32, wire_type: WireType, buf: &mut Bytes) -> Result<(), WireError> {
    Ok(encoding::skip_field(wire_type, tag, buf, DecodeContext::default())?)
}

/// Writes a non-zero integer as a varint field.
pub fn write_varint(value: u64, tag: u32, buf: &mut Vec<u8>) {
    if value != 0 {
        encoding::encode_key(tag, WireType::Varint, buf);
        encoding::encode_varint(value, buf);
    }
}

/// Reads a varint field.
///
/// # Errors
/// [`WireError::Malformed`].
pub fn read_varint(wire_type: WireType, buf: &mut Bytes) -> Result<u64, WireError> {
    encoding::check_wire_type(WireType::Varint, wire_type)?;
    Ok(encoding::decode_varint(buf)?)
}

impl Field for u64 {
    fn write(&self, tag: u32, buf: &mut Vec<u8>) {
        write_varint(*self, tag, buf);
    }
    fn merge(slot: &mut Option<Self>, wire_type: WireType, buf: &mut Bytes) -> Result<(), WireError> {
        *slot = Some(read_varint(wire_type, buf)?);
        Ok(())
    }
    fn missing() -> Option<Self> {
        Some(0)
    }
}

impl Field for u32 {
    fn write(&self, tag: u32, buf: &mut Vec<u8>) {
        write_varint(u64::from(*self), tag, buf);
    }
    fn merge(slot: &mut Option<Self>, wire_type: WireType, buf: &mut Bytes) -> Result<(), WireError> {
        let value = read_varint(wire_type, buf)?;
        *slot = Some(u32::try_from(value).map_err(|_| WireError::Invalid("u32"))?);
        Ok(())
    }
    fn missing() -> Option<Self> {
        Some(0)
    }
}

impl Field for bool {
    fn write(&self, tag: u32, buf: &mut Vec<u8>) {
        write_varint(u64::from(*self), tag, buf);
    }
    fn merge(slot: &mut Option<Self>, wire_type: WireType, buf: &mut Bytes) -> Result<(), WireError> {
        *slot = Some(read_varint(wire_type, buf)? != 0);
        Ok(())
    }
    fn missing() -> Option<Self> {
        Some(false)
    }
}

impl Field for Bytes {
    fn write(&self, tag: u32, buf: &mut Vec<u8>) {
        if !self.is_empty() {
            write_delimited(tag, buf, |buf| buf.extend_from_slice(self));
        }
    }
    fn merge(slot: &mut Option<Self>, wire_type: WireType, buf: &mut Bytes) -> Result<(), WireError> {
        *slot = Some(read_delimited(wire_type, buf)?);
        Ok(())
    }
    fn missing() -> Option<Self> {
        Some(Bytes::new())
    }
}

impl Field for String {
    fn write(&self, tag: u32, buf: &mut Vec<u8>) {
        if !self.is_empty() {
            write_delimited(tag, buf, |buf| buf.extend_from_slice(self.as_bytes()));
        }
    }
    fn merge(slot: &mut Option<Self>, wire_type: WireType, buf: &mut Bytes) -> Result<(), WireError> {
        let bytes = read_delimited(wire_type, buf)?;
        *slot = Some(String::from_utf8(bytes.to_vec()).map_err(|_| WireError::Invalid("UTF-8"))?);
        Ok(())
    }
    fn missing() -> Option<Self> {
        Some(String::new())
    }
}

impl Field for [u8; 16] {
    fn write(&self, tag: u32, buf: &mut Vec<u8>) {
        write_delimited(tag, buf, |buf| buf.extend_from_slice(self));
    }
    fn merge(slot: &mut Option<Self>, wire_type: WireType, buf: &mut Bytes) -> Result<(), WireError> {
        let bytes = read_delimited(wire_type, buf)?;
        *slot = Some(<[u8; 16]>::try_from(&bytes[..]).map_err(|_| WireError::Invalid("16-byte value"))?);
        Ok(())
    }
    fn missing() -> Option<Self> {
        None
    }
}

/// Absent and present-with-default are told apart: a present value is wrapped in a message of one field.
impl<T: Field> Field for Option<T> {
    fn write(&self, tag: u32, buf: &mut Vec<u8>) {
        if let Some(value) = self {
            write_delimited(tag, buf, |buf| value.write(1, buf));
        }
    }
    fn merge(slot: &mut Option<Self>, wire_type: WireType, buf: &mut Bytes) -> Result<(), WireError> {
        let mut content = read_delimited(wire_type, buf)?;
        let mut inner = None;
        while let Some((tag, wire_type)) = read_key(&mut content)? {
            match tag {
                1 => T::merge(&mut inner, wire_type, &mut content)?,
                _ => skip(tag, wire_type, &mut content)?,
            }
        }
        let value = inner.or_else(T::missing).ok_or(WireError::Missing("optional value"))?;
        *slot = Some(Some(value));
        Ok(())
    }
    fn missing() -> Option<Self> {
        Some(None)
    }
}

/// Each element is wrapped in a message of one field, so that default elements keep their place.
impl<T: Field> Field for Vec<T> {
    fn write(&self, tag: u32, buf: &mut Vec<u8>) {
        for value in self {
            write_delimited(tag, buf, |buf| value.write(1, buf));
        }
    }
    fn merge(slot: &mut Option<Self>, wire_type: WireType, buf: &mut Bytes) -> Result<(), WireError> {
        let mut one: Option<Option<T>> = None;
        Option::<T>::merge(&mut one, wire_type, buf)?;
        slot.get_or_insert_with(Vec::new).extend(one.flatten());
        Ok(())
    }
    fn missing() -> Option<Self> {
        Some(Vec::new())
    }
}

impl<T: Wire> Field for Box<T> {
    fn write(&self, tag: u32, buf: &mut Vec<u8>) {
        write_delimited(tag, buf, |buf| T::encode_to(self, buf));
    }
    fn merge(slot: &mut Option<Self>, wire_type: WireType, buf: &mut Bytes) -> Result<(), WireError> {
        *slot = Some(Box::new(T::decode_from(read_delimited(wire_type, buf)?)?));
        Ok(())
    }
    fn missing() -> Option<Self> {
        None
    }
}

/// Makes a type that is a [`Wire`] message usable as a [`Field`].
#[macro_export]
macro_rules! wire_field {
    ($name:ident) => {
        impl $crate::wire::Field for $name {
            fn write(&self, tag: u32, buf: &mut Vec<u8>) {
                $crate::wire::write_delimited(tag, buf, |buf| $crate::wire::Wire::encode_to(self, buf));
            }
            fn merge(
                slot: &mut Option<Self>,
                wire_type: ::prost::encoding::WireType,
                buf: &mut ::bytes::Bytes,
            ) -> Result<(), $crate::wire::WireError> {
                let content = $crate::wire::read_delimited(wire_type, buf)?;
                *slot = Some(<Self as $crate::wire::Wire>::decode_from(content)?);
                Ok(())
            }
            fn missing() -> Option<Self> {
                None
            }
        }
    };
}

/// A struct that is a protobuf message; each field names its tag.
#[macro_export]
macro_rules! wire_struct {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$fmeta:meta])* $tag:literal => $field:ident : $ty:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(missing_docs)] // fields whose name and type say it all
        $vis struct $name { $($(#[$fmeta])* pub $field: $ty),* }

        impl $crate::wire::Wire for $name {
            fn encode_to(&self, _buf: &mut Vec<u8>) {
                $($crate::wire::Field::write(&self.$field, $tag, _buf);)*
            }
            fn decode_from(mut bytes: ::bytes::Bytes) -> Result<Self, $crate::wire::WireError> {
                $(let mut $field: Option<$ty> = None;)*
                while let Some((tag, wire_type)) = $crate::wire::read_key(&mut bytes)? {
                    match tag {
                        $($tag => <$ty as $crate::wire::Field>::merge(&mut $field, wire_type, &mut bytes)?,)*
                        _ => $crate::wire::skip(tag, wire_type, &mut bytes)?,
                    }
                }
                Ok(Self {
                    $($field: $field
                        .or_else(<$ty as $crate::wire::Field>::missing)
                        .ok_or($crate::wire::WireError::Missing(concat!(stringify!($name), ".", stringify!($field))))?),*
                })
            }
        }
        $crate::wire_field!($name);
    };
}

/// An enum that is a protobuf message with one field set, as a `oneof`.
#[macro_export]
macro_rules! wire_enum {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$vmeta:meta])* $tag:literal => $variant:ident($ty:ty)),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(missing_docs)] // variants whose content is documented
        $vis enum $name { $($(#[$vmeta])* $variant($ty)),* }

        impl $crate::wire::Wire for $name {
            fn encode_to(&self, buf: &mut Vec<u8>) {
                match self {
                    $(Self::$variant(value) => $crate::wire::write_delimited($tag, buf, |buf| $crate::wire::Wire::encode_to(value, buf)),)*
                }
            }
            fn decode_from(mut bytes: ::bytes::Bytes) -> Result<Self, $crate::wire::WireError> {
                let mut value = None;
                while let Some((tag, wire_type)) = $crate::wire::read_key(&mut bytes)? {
                    match tag {
                        $($tag => {
                            let content = $crate::wire::read_delimited(wire_type, &mut bytes)?;
                            value = Some(Self::$variant(<$ty as $crate::wire::Wire>::decode_from(content)?));
                        })*
                        _ => $crate::wire::skip(tag, wire_type, &mut bytes)?,
                    }
                }
                value.ok_or($crate::wire::WireError::Missing(stringify!($name)))
            }
        }
        $crate::wire_field!($name);
    };
}

/// An enum of bare names, as a protobuf enum; codes start at 1 and an unknown one is refused.
#[macro_export]
macro_rules! wire_code {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$vmeta:meta])* $code:literal => $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)] // variants whose name says it all
        $vis enum $name { $($(#[$vmeta])* $variant),* }

        impl $name {
            /// Every value, in the order of the codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// The name clients see.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
            /// The value with this name.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }

        impl $crate::wire::Field for $name {
            fn write(&self, tag: u32, buf: &mut Vec<u8>) {
                let code: u64 = match self { $(Self::$variant => $code),* };
                $crate::wire::write_varint(code, tag, buf);
            }
            fn merge(
                slot: &mut Option<Self>,
                wire_type: ::prost::encoding::WireType,
                buf: &mut ::bytes::Bytes,
            ) -> Result<(), $crate::wire::WireError> {
                *slot = Some(match $crate::wire::read_varint(wire_type, buf)? {
                    $($code => Self::$variant,)*
                    _ => return Err($crate::wire::WireError::Invalid(stringify!($name))),
                });
                Ok(())
            }
            fn missing() -> Option<Self> {
                None
            }
        }
    };
}
