"""Values that break whatever pastes them into a command line."""

VALUES = (
    'plain', 'two words', "it's", 'say "hi"', '$(touch owned)', '`touch owned`',
    '$HOME ${HOME} $$', 'a\nb', 'tab\there', '; touch owned #', '& | > owned', '*.py ~',
    'back\\slash\\', '!history', '-rf', '', 'naïve €')
