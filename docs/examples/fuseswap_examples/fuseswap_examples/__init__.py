"""One plugin of each kind.  ``docs/plugins.md`` says what each has to do."""
