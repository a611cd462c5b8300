"""`kubectl asset-token`: what users ask of their AssetTokens, with their own rights.

A program of its own beside the operator, of whose modules it uses the pure ones only: it starts in a fraction of a
second, and whatever it does a user could have done with kubectl.
"""
