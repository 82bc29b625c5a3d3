"""Chains that run much longer than in training: do samples stay pictures?"""
