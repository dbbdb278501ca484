"""The pocket world: questions, text and preferences small enough to learn from nothing on two cores.

It imitates what matters of the real thing: a base corpus whose authors mostly blurt answers out but sometimes
reason, in two languages that they mix, with slips; plain knowledge and requests, some of them harmful; and
annotators who prefer good answers to bad ones.
"""
