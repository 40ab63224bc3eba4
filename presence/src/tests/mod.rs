//! Apart from the modules that they test, as loom and shuttle compile those, too.

mod pending;
mod users;
