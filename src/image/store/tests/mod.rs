mod build;
mod fixture;
mod locks;
