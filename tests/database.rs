//! The Postgres side against real servers, as the non-superuser operator login: oldest and newest supported version.

mod database {
    mod setup;

    mod cost;
    mod isolation;
    mod life;
    mod preflight;
    mod quoting;
    mod races;
}
