mod build;
mod locks;
mod world;
