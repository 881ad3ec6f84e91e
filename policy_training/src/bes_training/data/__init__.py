"""Small derived traffic data and the committed suites. Origin, licence and derivation: SOURCES.md beside this file."""
