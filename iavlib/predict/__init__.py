"""Using trained models on new images: agreement, malignancy, heat maps, and a report.

Research software, no medical device. Nothing heavy is imported before it is needed.
"""
