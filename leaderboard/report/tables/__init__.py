"""The written forms of a leaderboard, each a pure function of the content of ``leaderboard.json``."""
