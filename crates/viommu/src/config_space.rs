//! The PCI configuration space of an assigned function, as far as coherency is concerned: Enable No Snoop.
