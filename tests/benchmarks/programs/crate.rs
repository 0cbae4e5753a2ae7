// A large crate: types with derived traits, and code that is generic over them.
#![allow(dead_code)]
use std::collections::{BTreeMap, HashMap, HashSet};
pub trait Priced { fn price(&self) -> u64; fn label(&self) -> String; }

// repeated
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ItemNUMBER { name: String, amount: u64, tags: Vec<String>, weightNUMBER: Option<u32> }
#[derive(Debug, Clone, PartialEq)]
pub enum EventNUMBER { Added(ItemNUMBER), Moved { from: u32, to: u32 }, Text(String), Gone }
impl Priced for ItemNUMBER {
    fn price(&self) -> u64 { self.amount * (NUMBER + 3) + self.weightNUMBER.unwrap_or(1) as u64 }
    fn label(&self) -> String { format!("{}-{:?}-NUMBER", self.name, self.tags) }
}
pub struct ShelfNUMBER { items: HashMap<u64, ItemNUMBER>, order: BTreeMap<String, Vec<u64>> }
impl ShelfNUMBER {
    pub fn apply(&mut self, events: &[EventNUMBER]) -> Result<usize, String> {
        let mut seen = HashSet::new();
        for event in events {
            match event {
                EventNUMBER::Added(item) => {
                    let key = item.price() % (NUMBER + 11);
                    self.order.entry(item.label()).or_default().push(key);
                    self.items.insert(key, item.clone());
                }
                EventNUMBER::Moved { from, to } if from != to => { seen.insert(*to as u64); }
                EventNUMBER::Text(text) => return Err(text.replace("a", "b")),
                other => { let _ = format!("{:?}", other); }
            }
        }
        Ok(self.items.values().filter(|item| seen.contains(&item.amount)).map(|i| i.tags.len()).sum())
    }
}
