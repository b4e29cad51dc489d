"""A folder of photos becomes a dataset of the schema: what ``curate.py`` does.

Every photo is looked at by itself (:mod:`curation.looks`), then each subject's photos are compared with one another
(:mod:`curation.choice`), then what is kept is cut out and masked (:mod:`curation.portraits`), and last the columns that
need the whole set are filled (:mod:`curation.columns`) and the shards and the report are written.
"""
