//! 64 commands at once: limits and names are respected, and none is refused without need.

use super::ground::{Begun, Ended, Ground};

fn stampede(ground: &Ground, args: &[&str]) -> Vec<Ended> {
    let crowd: Vec<Begun> = (0..64).map(|_| ground.begin(&mut ground.mayfly(args))).collect();
    crowd.into_iter().map(Begun::end).collect()
}

fn outcome(ground: &Ground, ended: &[Ended], winners: usize, refused: i32) {
    let won: Vec<&Ended> = ended.iter().filter(|one| one.code == Some(0)).collect();
    won.iter().for_each(|one| ground.ledger.created(one.stdout.trim()));
    for loser in ended.iter().filter(|one| one.code != Some(0)) {
        assert_eq!(loser.code, Some(refused), "{loser:#?}");
    }
    assert_eq!(won.len(), winners);
    assert_eq!(ground.registry().vms.len(), winners);
    ground.check("a stampede");
}

#[test]
fn sixty_four_creates_for_four_places() {
    let mut ground = Ground::new();
    ground.set("MAYFLY_MAX_ACTIVE_VMS", "4");
    let ended = stampede(&ground, &["create"]);
    outcome(&ground, &ended, 4, 5);
}

#[test]
fn sixty_four_creates_with_one_name() {
    let ground = Ground::new();
    let ended = stampede(&ground, &["create", "--name", "only-one"]);
    outcome(&ground, &ended, 1, 4);
}
