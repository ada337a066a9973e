//! A container image from a registry, as a VM.

use std::path::Path;

use super::imported::archive;
use crate::support::environment::Environment;
use crate::support::registry::ImageRegistry;

#[test]
fn an_image_from_a_registry_boots_and_runs_its_command() {
    let mut env = Environment::qemu();
    env.keep_templates_apart();
    let registry = ImageRegistry::start();
    registry.log_in(&env);
    let reference = registry.push_file(Path::new(&archive(&env)), "team/greeter:v1");
    let run = |words: &[&str]| {
        env.run(&[&["run", "-q", "--cold", "--mem", "256M", "--image", &reference], words].concat())
    };
    run(&["--pull", "never"]).fails(125, "mayfly: no image of [..] is here[..]");
    run(&["--name", "box"]).is(
        0,
        "hello from the image\nuid=1000(app) gid=1000(app) groups=1000(app)\n/srv/app\nbox\n\
         greeting kept\n",
        "",
    );
    let images = env.run(&["image", "ls", "--json"]).json();
    assert_eq!(images[1]["reference"], reference, "{images}");
}
