"""What a run shows: the description of report.json, the table at its end, the plots and report.html.

Renders the report and nothing else: no row, label, score or update of anybody ever enters this room.
"""
