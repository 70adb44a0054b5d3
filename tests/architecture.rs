//! The house rules, checked on the source itself: rooms and arrows, pure rooms, short files, no loose ends.

mod architecture {
    mod files;
    mod rooms;
    mod source;
}
