"""The web console in Chromium: operators' jobs, accessibility, and screenshots."""
