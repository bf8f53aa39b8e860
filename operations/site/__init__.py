"""The report site: two static pages. Did it run, is it right, how fresh is it, what was rejected?"""
