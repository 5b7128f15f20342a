//! The history of promotions on each node.

promised!(history(): each_node_keeps_the_promotions_that_it_hears_of, a_history_that_cannot_be_kept_changes_nothing);
promised!(history((12, 60_000)): a_history_is_whole_and_has_each_promotion_once_whatever_is_killed);
