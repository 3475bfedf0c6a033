//! Where the program lies in memory: a script for the linker, for the bare-metal target alone.

fn main() {
    println!("cargo:rerun-if-changed=el2.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo:rustc-link-arg-bins=-T{folder}/el2.ld");
    }
}
