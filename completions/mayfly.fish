complete --keep-order --exclusive --command mayfly --arguments "(MAYFLY_COMPLETE=fish mayfly -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
