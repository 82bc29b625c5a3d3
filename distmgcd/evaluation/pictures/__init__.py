"""Contact sheets and strips: pictures for the eye, in PNG."""
