//! The driver over real sockets on loopback, with certificates made here.

mod net {
    mod certificates;
    mod faults;
    mod node;
    mod refusals;
    mod traffic;
}
