"""The leaderboard as one HTML file that opens offline: no request, no framework, every text escaped."""
