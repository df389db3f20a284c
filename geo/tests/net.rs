//! The driver over real sockets on loopback, with certificates made here.

mod net {
    mod certificates;
    mod faults;
    mod lanes;
    mod node;
    mod refusals;
    mod relay;
    mod traffic;
}
