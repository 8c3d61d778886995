//! The task graph: all tasks of a configuration with their `needs` edges.
//!
//! Immutable once built, known by the hash of its content. Also the [`Plan`]: what a selection of
//! it means, ready to be run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use petgraph::Direction;
use petgraph::algo::{kosaraju_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};
use serde::{Deserialize, Serialize};

use super::id::{Name, NodeIx, Rev};
use super::selector::Selector;
use super::task::TaskSpec;

/// The task graph.
#[derive(Debug)]
pub struct Graph {
    rev: Rev,
    /// Edges point from a task to those that need it. Node order is name order.
    dag: DiGraph<Arc<TaskSpec>, ()>,
    by_name: BTreeMap<Name, NodeIx>,
}

/// Why tasks make no graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// A task needs one that is not there.
    #[error("task `{task}` needs `{need}`, which does not exist")]
    UnknownNeed {
        /// The task.
        task: Name,
        /// What it names.
        need: Name,
    },
    /// Tasks that wait for each other. The first is repeated at the end.
    #[error("tasks need each other in a circle: {}", .path.join(" → "))]
    Cycle {
        /// Each task needs the next.
        path: Vec<Name>,
    },
}

impl Graph {
    /// Builds a stored graph again, under the revision that it was stored with.
    pub fn restore(rev: Rev, stored: StoredGraph) -> Result<Self, Vec<GraphError>> {
        Self::build(stored.tasks).map(|graph| Self { rev, ..graph })
    }

    /// Builds the graph. Reports everything that is wrong with it: each unknown need, and one
    /// shortest circle for each group of tasks that wait for each other.
    pub fn build(tasks: Vec<TaskSpec>) -> Result<Self, Vec<GraphError>> {
        let rev = revision(&tasks);
        let mut tasks: Vec<Arc<TaskSpec>> = tasks.into_iter().map(Arc::new).collect();
        tasks.sort_by(|a, b| a.name.cmp(&b.name));
        tasks.dedup_by(|a, b| a.name == b.name);
        let edges = tasks.iter().map(|task| task.needs.len()).sum();
        let mut dag = DiGraph::with_capacity(tasks.len(), edges);
        let mut by_name = BTreeMap::new();
        for task in tasks {
            let name = task.name.clone();
            let ix = dag.add_node(task);
            by_name.insert(name, NodeIx(u32::try_from(ix.index()).expect("fewer than 2^32 tasks")));
        }
        let mut errors = Vec::new();
        for ix in dag.node_indices() {
            let task = dag[ix].clone();
            let mut seen = BTreeSet::new();
            for need in task.needs.iter().filter(|need| seen.insert((*need).clone())) {
                match by_name.get(need) {
                    Some(from) => drop(dag.add_edge(node(*from), ix, ())),
                    None => errors.push(GraphError::UnknownNeed {
                        task: task.name.clone(),
                        need: need.clone(),
                    }),
                }
            }
        }
        errors.extend(cycles(&dag));
        if errors.is_empty() { Ok(Self { rev, dag, by_name }) } else { Err(errors) }
    }

    /// The hash of its content.
    pub fn rev(&self) -> &Rev {
        &self.rev
    }

    /// How many tasks it has.
    pub fn len(&self) -> usize {
        self.dag.node_count()
    }

    /// Whether it has no tasks.
    pub fn is_empty(&self) -> bool {
        self.dag.node_count() == 0
    }

    /// The task at `ix`.
    pub fn task(&self, ix: NodeIx) -> &Arc<TaskSpec> {
        &self.dag[node(ix)]
    }

    /// The task called `name`.
    pub fn find(&self, name: &str) -> Option<NodeIx> {
        self.by_name.get(name).copied()
    }

    /// All tasks, in the order of their names.
    pub fn nodes(&self) -> impl Iterator<Item = NodeIx> + use<> {
        (0..u32::try_from(self.dag.node_count()).expect("fewer than 2^32 tasks")).map(NodeIx)
    }

    /// What `ix` needs, directly, in the order of their names.
    pub fn needs(&self, ix: NodeIx) -> Vec<NodeIx> {
        self.neighbors(ix, Direction::Incoming)
    }

    /// What needs `ix`, directly, in the order of their names.
    pub fn dependents(&self, ix: NodeIx) -> Vec<NodeIx> {
        self.neighbors(ix, Direction::Outgoing)
    }

    fn neighbors(&self, ix: NodeIx, direction: Direction) -> Vec<NodeIx> {
        let mut found: Vec<_> =
            self.dag.neighbors_directed(node(ix), direction).map(nodeix).collect();
        found.sort_unstable();
        found
    }

    /// All that can be reached from `from` within `depth` steps, `from` included. `up` follows
    /// needs, otherwise dependents.
    pub fn reach(&self, from: &BTreeSet<NodeIx>, up: bool, depth: u32) -> BTreeSet<NodeIx> {
        let direction = if up { Direction::Incoming } else { Direction::Outgoing };
        let mut reached = from.clone();
        let mut edge: Vec<NodeIx> = from.iter().copied().collect();
        for _ in 0..depth {
            let mut next = Vec::new();
            for ix in edge {
                let around = self.dag.neighbors_directed(node(ix), direction).map(nodeix);
                next.extend(around.filter(|&found| reached.insert(found)));
            }
            if next.is_empty() {
                break;
            }
            edge = next;
        }
        reached
    }

    /// What the selection means for this graph.
    pub fn plan(&self, select: &Selector) -> Plan {
        Plan::new(self, &select.eval(self))
    }

    /// The tasks, for storing.
    pub fn to_stored(&self) -> StoredGraph {
        StoredGraph { tasks: self.dag.node_weights().map(|task| TaskSpec::clone(task)).collect() }
    }
}

/// A graph's tasks as they are stored: enough to build it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredGraph {
    /// The tasks.
    pub tasks: Vec<TaskSpec>,
}

fn node(ix: NodeIx) -> NodeIndex {
    NodeIndex::new(ix.at())
}

fn nodeix(ix: NodeIndex) -> NodeIx {
    NodeIx(u32::try_from(ix.index()).expect("fewer than 2^32 tasks"))
}

/// Hash of the tasks in the order of their names.
fn revision(tasks: &[TaskSpec]) -> Rev {
    let mut sorted: Vec<_> = tasks.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut hasher = blake3::Hasher::new();
    for task in sorted {
        let json = serde_json::to_vec(task).expect("a task is plain data");
        hasher.update(&(json.len() as u64).to_le_bytes());
        hasher.update(&json);
    }
    Rev(hasher.finalize().to_hex()[..16].into())
}

/// One shortest circle for each group of tasks that wait for each other.
fn cycles(dag: &DiGraph<Arc<TaskSpec>, ()>) -> Vec<GraphError> {
    if toposort(dag, None).is_ok() {
        return Vec::new();
    }
    let mut found: Vec<GraphError> = kosaraju_scc(dag)
        .into_iter()
        .filter_map(|group| {
            let first = *group.iter().min()?;
            let turning = group.len() > 1 || dag.contains_edge(first, first);
            turning.then(|| shortest_circle(dag, first))
        })
        .collect();
    found.sort_by_key(ToString::to_string);
    found
}

/// Breadth first along `needs` from `start` back to it.
fn shortest_circle(dag: &DiGraph<Arc<TaskSpec>, ()>, start: NodeIndex) -> GraphError {
    let mut came_from: BTreeMap<NodeIndex, NodeIndex> = BTreeMap::new();
    let mut edge = vec![start];
    'search: while !edge.is_empty() {
        let mut next = Vec::new();
        for at in edge {
            for need in dag.neighbors_directed(at, Direction::Incoming) {
                if let std::collections::btree_map::Entry::Vacant(slot) = came_from.entry(need) {
                    slot.insert(at);
                    next.push(need);
                }
                if need == start {
                    break 'search;
                }
            }
        }
        edge = next;
    }
    let mut path = vec![dag[start].name.clone()];
    let mut at = start;
    while let Some(&previous) = came_from.get(&at) {
        path.push(dag[previous].name.clone());
        at = previous;
        if at == start {
            break;
        }
    }
    path.reverse();
    GraphError::Cycle { path }
}

/// A task within a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanNode {
    /// The task.
    pub ix: NodeIx,
    /// Whether it lies between selected tasks without being one: it succeeds without an attempt
    /// where it would run.
    pub pass: bool,
    /// Positions in the plan of what it needs. Unselected needs count as satisfied.
    pub needs: Vec<u32>,
    /// Positions in the plan of what needs it.
    pub dependents: Vec<u32>,
}

/// A selection of a graph, ready to be run: the selected tasks and those that lie between them.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// In the order of the tasks' names.
    nodes: Vec<PlanNode>,
    /// Positions in `nodes`.
    order: Vec<u32>,
}

impl Plan {
    fn new(graph: &Graph, selected: &BTreeSet<NodeIx>) -> Self {
        let below = graph.reach(selected, false, u32::MAX);
        let above = graph.reach(selected, true, u32::MAX);
        let all: Vec<NodeIx> = below.intersection(&above).copied().collect();
        let place = |ix: NodeIx| all.binary_search(&ix).ok().and_then(|at| u32::try_from(at).ok());
        let nodes: Vec<PlanNode> = all
            .iter()
            .map(|&ix| PlanNode {
                ix,
                pass: !selected.contains(&ix),
                needs: graph.needs(ix).into_iter().filter_map(place).collect(),
                dependents: graph.dependents(ix).into_iter().filter_map(place).collect(),
            })
            .collect();
        let order = topological(&nodes);
        Self { nodes, order }
    }

    /// Its tasks, in the order of their names.
    pub fn nodes(&self) -> &[PlanNode] {
        &self.nodes
    }

    /// The position of a task in the plan.
    pub fn place(&self, ix: NodeIx) -> Option<usize> {
        self.nodes.binary_search_by_key(&ix, |node| node.ix).ok()
    }

    /// Positions in an order in which each comes after what it needs; among those that could be
    /// next, the first by name.
    pub fn topological(&self) -> &[u32] {
        &self.order
    }
}

fn topological(nodes: &[PlanNode]) -> Vec<u32> {
    let mut missing: Vec<usize> = nodes.iter().map(|node| node.needs.len()).collect();
    let mut ready: BTreeSet<u32> =
        (0u32..).zip(&missing).filter(|(_, missing)| **missing == 0).map(|(at, _)| at).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(at) = ready.pop_first() {
        order.push(at);
        for &next in &nodes[at as usize].dependents {
            missing[next as usize] -= 1;
            if missing[next as usize] == 0 {
                ready.insert(next);
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::{Graph, GraphError};
    use crate::core::id::NodeIx;
    use crate::core::selector::Selector;
    use crate::core::task::TaskSpec;

    fn graph(edges: &[(&str, &[&str])]) -> Result<Graph, Vec<GraphError>> {
        let tasks = edges.iter().map(|(name, needs)| {
            let mut task = TaskSpec::new(name, Vec::new());
            task.needs = needs.iter().map(|&need| need.into()).collect();
            task
        });
        Graph::build(tasks.collect())
    }

    fn names(graph: &Graph, plan: &super::Plan) -> String {
        let order = plan.topological().iter().map(|&at| {
            let node = &plan.nodes()[at as usize];
            let name = &graph.task(node.ix).name;
            if node.pass { format!("({name})") } else { name.to_string() }
        });
        order.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_whole_circle_is_named() {
        let errors =
            graph(&[("a", &["c"]), ("b", &["a"]), ("c", &["b"]), ("d", &["c"])]).unwrap_err();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].to_string(), "tasks need each other in a circle: a → c → b → a");
        let own = graph(&[("a", &["a"])]).unwrap_err();
        assert_eq!(own[0].to_string(), "tasks need each other in a circle: a → a");
    }

    #[test]
    fn all_errors_at_once() {
        let errors =
            graph(&[("a", &["x"]), ("b", &["b"]), ("c", &["d"]), ("d", &["c", "y"])]).unwrap_err();
        assert_eq!(errors.len(), 4);
    }

    #[test]
    fn a_task_between_selected_ones_is_passed_through() {
        let abc = graph(&[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &["c"])]).unwrap();
        let plan = abc.plan(&Selector::parse("a,c").unwrap());
        assert_eq!(names(&abc, &plan), "a (b) c");
        let plan = abc.plan(&Selector::parse("c").unwrap());
        assert_eq!(names(&abc, &plan), "c");
    }

    #[test]
    fn the_revision_is_of_the_content() {
        let one = graph(&[("a", &[]), ("b", &["a"])]).unwrap();
        let same = graph(&[("b", &["a"]), ("a", &[])]).unwrap();
        let other = graph(&[("a", &[]), ("b", &[])]).unwrap();
        assert_eq!(one.rev(), same.rev());
        assert_ne!(one.rev(), other.rev());
        assert_eq!(one.find("b"), Some(NodeIx(1)));
    }

    #[test]
    fn deep_graphs_need_no_stack() {
        let names: Vec<String> = (0..50_000).map(|n| format!("t{n:05}")).collect();
        let tasks = names.iter().enumerate().map(|(n, name)| {
            let mut task = TaskSpec::new(name, Vec::new());
            task.needs =
                n.checked_sub(1).map(|before| names[before].as_str().into()).into_iter().collect();
            task
        });
        let chain = Graph::build(tasks.collect()).unwrap();
        assert_eq!(chain.plan(&Selector::parse("t00000+").unwrap()).topological().len(), 50_000);
    }
}
