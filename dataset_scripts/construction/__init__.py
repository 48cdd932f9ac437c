"""The construction pipeline of ElysiumTrack: captioned videos in, trajectories with words out (paper, section 3)."""
