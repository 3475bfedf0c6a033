//! Requests and replies as bytes, by offset (virtio 1.4, 5.13.6): the suite's own copy of the layout.
