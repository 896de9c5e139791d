DROP TABLE mailbox_turns;
