//! Requests come out the same however their bytes are cut, and no bytes are too odd.

#![expect(clippy::indexing_slicing, reason = "a test that fails may panic")]

use proptest::prelude::*;

use super::*;

const OPEN: Rules = Rules {
    bulk_bytes_max: limits::BULK_BYTES_MAX,
    request_bytes_max: limits::QUERY_BUFFER_BYTES_MAX,
    authenticated: true,
};

/// All requests of `pieces`, which arrive one after the other, and the error that ends them.
fn decode(pieces: &[&[u8]], rules: Rules) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
    let mut decoder = Decoder::new();
    let mut buffer = Vec::new();
    let mut requests = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.next(&mut buffer, rules) {
                Ok(None) => break,
                Ok(Some(request)) => {
                    let arguments = request.spans.iter().map(|span| span.of(&buffer).to_vec());
                    requests.push(arguments.collect());
                    assert_ne!(request.consumed, 0);
                    buffer.drain(..request.consumed);
                }
                Err(error) => return (requests, Some(error)),
            }
        }
    }
    (requests, None)
}

#[track_caller]
fn check(input: &[u8], expected: &[&[&[u8]]]) {
    let (requests, error) = decode(&[input], OPEN);
    assert_eq!(error, None);
    assert_eq!(requests, expected);
}

#[track_caller]
fn check_error(input: &[u8], rules: Rules, expected: &str) {
    let text = |pieces: &[&[u8]]| decode(pieces, rules).1.map(|error| error.to_string());
    assert_eq!(text(&[input]).as_deref(), Some(expected));
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(text(&bytes).as_deref(), Some(expected));
}

#[test]
fn a_pipeline_is_split() {
    check(
        b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\nPING\r\n*1\r\n$0\r\n\r\n",
        &[&[b"GET", b"k"], &[b"PING"], &[b"PING"], &[b""]],
    );
}

#[test]
fn arguments_hold_any_bytes() {
    check(
        b"*2\r\n$6\r\n\r\n*1\r\n\r\n$2\r\n\0\xff\r\n",
        &[&[b"\r\n*1\r\n", b"\0\xff"]],
    );
}

#[test]
fn nothing_asked_is_an_empty_request() {
    check(
        b"\r\n*0\r\n*-1\r\n \nPING\n",
        &[&[], &[], &[], &[], &[b"PING"]],
    );
}

#[test]
fn inline_commands_are_unquoted() {
    let cases: &[(&[u8], &[&[u8]])] = &[
        (b"set  k\tv \r\n", &[b"set", b"k", b"v"]),
        (b"set k \"a b\"\n", &[b"set", b"k", b"a b"]),
        (
            br#"a "\x41\x4g\n\r\t\b\a\"\\\q" b"#,
            &[b"a", b"Ax4g\n\r\t\x08\x07\"\\q", b"b"],
        ),
        (br"a 'b\'c\n' d", &[b"a", br"b'c\n", b"d"]),
        (br#"pre"fix" 'x'"#, &[b"prefix", b"x"]),
        (br#""" ''"#, &[b"", b""]),
    ];
    for (line, words) in cases {
        let mut line = line.to_vec();
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        check(&line, &[words]);
    }
}

#[test]
fn errors_have_the_texts_of_redis() {
    let cases: &[(&[u8], &str)] = &[
        (b"*x\r\n", "Protocol error: invalid multibulk length"),
        (b"*01\r\n", "Protocol error: invalid multibulk length"),
        (b"*\r\n", "Protocol error: invalid multibulk length"),
        (b"*1048577\r\n", "Protocol error: invalid multibulk length"),
        (
            b"*20000000000000000000\r\n",
            "Protocol error: invalid multibulk length",
        ),
        (b"*1\r\nx\r\n", "Protocol error: expected '$', got 'x'"),
        (b"*1\r\n$-1\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n$x\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n$\r\n", "Protocol error: invalid bulk length"),
        (
            b"*1\r\n$536870913\r\n",
            "Protocol error: invalid bulk length",
        ),
        (
            b"*1\r\n$9223372036854775807\r\n",
            "Protocol error: invalid bulk length",
        ),
        (b"a \"b\n", "Protocol error: unbalanced quotes in request"),
        (b"a 'b\n", "Protocol error: unbalanced quotes in request"),
        (
            b"a \"b\"c\n",
            "Protocol error: unbalanced quotes in request",
        ),
        (b"a \"b\\\n", "Protocol error: unbalanced quotes in request"),
    ];
    for (input, text) in cases {
        check_error(input, OPEN, text);
    }
}

#[test]
fn a_line_has_an_end() {
    let long = vec![b'1'; limits::INLINE_BYTES_MAX + 1];
    let cases: [(&[u8], &str); 3] = [
        (b"", "Protocol error: too big inline request"),
        (b"*", "Protocol error: too big mbulk count string"),
        (b"*1\r\n$", "Protocol error: too big bulk count string"),
    ];
    for (start, text) in cases {
        check_error(&[start, &long].concat(), OPEN, text);
        check_error(&[start, &long, b"\r\n"].concat(), OPEN, text);
    }
    let mut fits = vec![b'1'; limits::INLINE_BYTES_MAX];
    fits.push(b'\n');
    assert_eq!(decode(&[&fits], OPEN).0.len(), 1);
}

#[test]
fn a_stranger_may_not_send_much() {
    let closed = Rules {
        authenticated: false,
        ..OPEN
    };
    check_error(
        b"*11\r\n",
        closed,
        "Protocol error: unauthenticated multibulk length",
    );
    check_error(
        b"*1\r\n$16385\r\n",
        closed,
        "Protocol error: unauthenticated bulk length",
    );
    assert_eq!(decode(&[b"*10\r\n$16384\r\n"], closed).1, None);
}

#[test]
fn a_request_fits_the_query_buffer() {
    let huge = Rules {
        bulk_bytes_max: usize::MAX,
        request_bytes_max: limits::QUERY_BUFFER_BYTES_MAX,
        authenticated: true,
    };
    let text = "Protocol error: request exceeds the query buffer limit";
    check_error(b"*1\r\n$1073741824\r\n", huge, text);
    check_error(b"*1\r\n$9223372036854775807\r\n", huge, text);
}

#[test]
fn it_says_how_much_it_wants() {
    let mut decoder = Decoder::new();
    let mut buffer = b"*1\r\n$1000\r\nabc".to_vec();
    assert_eq!(decoder.next(&mut buffer, OPEN), Ok(None));
    assert_eq!(decoder.wanted(), 11 + 1000 + 2);
}

/// A byte at a time, a large value and many arguments take no longer than they are: rescanning
/// either would be 10¹¹ steps.
#[test]
fn nothing_is_read_twice() {
    let mut input = b"*50001\r\n$300000\r\n".to_vec();
    input.resize(input.len() + 300_000, b'x');
    input.extend_from_slice(b"\r\n");
    for _ in 0..50_000 {
        input.extend_from_slice(b"$1\r\ny\r\n");
    }
    let mut decoder = Decoder::new();
    for end in 0..input.len() {
        assert_eq!(decoder.next(&mut input[..end], OPEN), Ok(None));
    }
    let request = decoder.next(&mut input, OPEN).unwrap().unwrap();
    assert_eq!(request.arguments(&input)[50_000], b"y");
    assert_eq!(request.consumed, input.len());
    assert_eq!(decoder.wanted(), 1);
}

/// A pipeline of requests and the bytes that ask for them.
fn pipeline() -> impl Strategy<Value = (Vec<Vec<Vec<u8>>>, Vec<u8>)> {
    let argument = proptest::collection::vec(any::<u8>(), 0..40);
    let request = (proptest::collection::vec(argument, 0..12), any::<bool>());
    proptest::collection::vec(request, 0..8).prop_map(|requests| {
        let mut bytes = Vec::new();
        for (request, inline) in &requests {
            write_request(&mut bytes, request, *inline);
        }
        (
            requests.into_iter().map(|(request, _)| request).collect(),
            bytes,
        )
    })
}

fn write_request(bytes: &mut Vec<u8>, request: &[Vec<u8>], inline: bool) {
    if inline {
        for argument in request {
            bytes.push(b'"');
            for byte in argument {
                bytes.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
            }
            bytes.extend_from_slice(b"\" ");
        }
        bytes.extend_from_slice(b"\r\n");
        return;
    }
    bytes.extend_from_slice(format!("*{}\r\n", request.len()).as_bytes());
    for argument in request {
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
}

/// `bytes` cut at each of `cuts`.
fn cut<'b>(bytes: &'b [u8], cuts: &[prop::sample::Index]) -> Vec<&'b [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect()
}

/// Bytes that are nearly requests: arbitrary ones seldom get past the first.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        Just(b"\r\n".to_vec()),
        Just(b"*".to_vec()),
        Just(b"$".to_vec()),
        Just(b"\"".to_vec()),
        Just(b"'".to_vec()),
        Just(b"\\x".to_vec()),
        (-2_i64..30).prop_map(|n| n.to_string().into_bytes()),
        (-2_i64..30).prop_map(|n| format!("*{n}\r\n").into_bytes()),
        (0_usize..6).prop_map(|n| format!("${n}\r\n{}\r\n", "x".repeat(n)).into_bytes()),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(token, 0..24).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn requests_come_out_as_they_went_in(
        (requests, bytes) in pipeline(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        prop_assert_eq!(decode(&[&bytes], OPEN), (requests.clone(), None));
        prop_assert_eq!(decode(&cut(&bytes, &cuts), OPEN), (requests, None));
    }

    #[test]
    fn cuts_change_nothing(
        bytes in nearly(),
        authenticated in any::<bool>(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let rules = Rules { bulk_bytes_max: 20, request_bytes_max: limits::QUERY_BUFFER_BYTES_MAX, authenticated };
        let whole = decode(&[&bytes], rules);
        prop_assert_eq!(&whole, &decode(&cut(&bytes, &cuts), rules));
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&whole, &decode(&single, rules));
    }

    #[test]
    fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        decode(&[&bytes], OPEN);
        decode(&[b"*3\r\n", &bytes], OPEN);
    }
}
