//! Links the unwinder of libgcc into the programs instead of loading it. They are started so often, by Pacemaker and by cron, that what
//! loading another library takes (a tenth of what the wrapper adds to a job) is worth a few kilobytes.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Without the link-time optimisation of a release it stays unused, and the library is loaded as ever.
    println!("cargo:rustc-link-lib=static:-bundle=gcc_eh");
}
