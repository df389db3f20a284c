//! Commands on strings of bits.

use super::Row;
use crate::compare::Compare::Exact;
use crate::generator::Kind::{Bits, Text};
use crate::generator::{Generator, Words, words};

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row::new("BITCOUNT", Exact, |g| {
            [
                words![key(g)],
                g.maybe(0.6, |g| [words![g.index(), g.index()], unit(g)].concat()),
            ]
            .concat()
        }),
        Row::new("BITFIELD", Exact, |g| {
            [words![key(g)], g.some(4, field_change)].concat()
        }),
        Row::new("BITFIELD_RO", Exact, |g| {
            [words![key(g)], g.some(3, field_read)].concat()
        }),
        Row::new("BITOP", Exact, |g| {
            let operation = g.pick(&["AND", "OR", "XOR", "NOT", "xor"]);
            let most = if operation == "NOT" { 1 } else { 3 };
            [
                words![operation, g.exact_key(Bits)],
                g.some(most, |g| words![key(g)]),
            ]
            .concat()
        }),
        Row::new("BITPOS", Exact, |g| {
            let bit = if g.chance(0.03) { 2 } else { g.below(2) };
            let range = match g.below(3) {
                0 => words![],
                1 => words![g.index()],
                _ => [words![g.index(), g.index()], unit(g)].concat(),
            };
            [words![key(g), bit], range].concat()
        }),
        Row::new("GETBIT", Exact, |g| words![key(g), offset(g)]),
        Row::new("SETBIT", Exact, |g| {
            let bit = if g.chance(0.03) { 2 } else { g.below(2) };
            words![key(g), offset(g), bit]
        })
        .weight(8),
    ]
}

fn key(g: &mut Generator) -> Vec<u8> {
    let kind = g.pick(&[Bits, Bits, Bits, Text]);
    g.key(kind)
}

fn unit(g: &mut Generator) -> Words {
    g.maybe(0.4, |g| words![g.pick(&["BIT", "BYTE", "bit"])])
}

fn offset(g: &mut Generator) -> Vec<u8> {
    match g.below(40) {
        0 => g.pick(&["-1", "4294967296", "x", "1000", "65535"]).into(),
        _ => g.below(200).to_string().into_bytes(),
    }
}

fn field_type(g: &mut Generator) -> Vec<u8> {
    match g.below(30) {
        0 => g.pick(&["u64", "i65", "u0", "x8", "i"]).into(),
        1 => g.pick(&["i64", "u63", "i1", "u1"]).into(),
        _ => {
            let (sign, width) = (g.pick(&["u", "i"]), g.between(1, 20));
            format!("{sign}{width}").into_bytes()
        }
    }
}

fn field_offset(g: &mut Generator) -> Vec<u8> {
    match g.below(30) {
        0 => g.pick(&["-1", "#x", "4294967296"]).into(),
        1..=8 => format!("#{}", g.below(6)).into_bytes(),
        _ => g.below(100).to_string().into_bytes(),
    }
}

fn field_read(g: &mut Generator) -> Words {
    words!["GET", field_type(g), field_offset(g)]
}

fn field_change(g: &mut Generator) -> Words {
    match g.below(4) {
        0 => field_read(g),
        1 => words!["SET", field_type(g), field_offset(g), g.int()],
        2 => words!["INCRBY", field_type(g), field_offset(g), g.int()],
        _ => {
            let overflow = words!["OVERFLOW", g.pick(&["WRAP", "SAT", "FAIL", "fail"])];
            let change = words!["INCRBY", field_type(g), field_offset(g), g.int()];
            [overflow, change].concat()
        }
    }
}
