"""Tests of the modules of devsync.replica."""
