mod build;
mod damage;
mod fixture;
mod locks;
