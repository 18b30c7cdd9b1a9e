//! Cheapest assignment: minimum-cost flow by successive shortest paths.
//!
//! Owns: the graph, the order of costs, and the search (Dijkstra on reduced costs; Ahuja, Magnanti and Orlin, "Network
//! Flows", chapter 9.7).
//! Must not know: what a vertex stands for.
//! Invariants: pure and deterministic: ties go to the lower vertex and the earlier edge; after every unit pushed the
//! flow is a cheapest one for what was pushed so far.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::{Add, AddAssign, Sub};

/// What an assignment costs; an earlier field outweighs any amount of the later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Cost {
    /// Replicas that share a zone with another one of their shard.
    pub(super) collisions: i64,
    /// Units on nodes beyond floor(mean), so that nobody stays below it while others are above.
    pub(super) above_floor: i64,
    /// Units that were elsewhere before.
    pub(super) moves: i64,
    /// Collisions that are not worth a move.
    pub(super) idle_collisions: i64,
    /// Places down in the ring's preference order.
    pub(super) rank: i64,
}

impl Add for Cost {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            collisions: self.collisions + other.collisions,
            above_floor: self.above_floor + other.above_floor,
            moves: self.moves + other.moves,
            idle_collisions: self.idle_collisions + other.idle_collisions,
            rank: self.rank + other.rank,
        }
    }
}

impl Sub for Cost {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self {
            collisions: self.collisions - other.collisions,
            above_floor: self.above_floor - other.above_floor,
            moves: self.moves - other.moves,
            idle_collisions: self.idle_collisions - other.idle_collisions,
            rank: self.rank - other.rank,
        }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// One direction of an edge; the other one is its neighbour in the list (index xor 1).
#[derive(Debug)]
struct Arc {
    to: usize,
    room: u32,
    cost: Cost,
}

/// Names an edge.
#[derive(Debug, Clone, Copy)]
pub(super) struct EdgeId(usize);

/// A network and the flow through it.
#[derive(Debug)]
pub(super) struct Flow {
    arcs: Vec<Arc>,
    leaving: Vec<Vec<usize>>,
    potential: Vec<Cost>,
}

impl Flow {
    /// A network of unconnected vertices.
    pub(super) fn new(vertices: usize) -> Self {
        Self { arcs: Vec::new(), leaving: vec![Vec::new(); vertices], potential: vec![Cost::default(); vertices] }
    }

    /// Connects two vertices; `cost` is per unit and not negative. All edges are added before the first push.
    pub(super) fn edge(&mut self, from: usize, to: usize, room: u32, cost: Cost) -> EdgeId {
        let id = self.arcs.len();
        self.leaving[from].push(id);
        self.arcs.push(Arc { to, room, cost });
        self.leaving[to].push(id + 1);
        self.arcs.push(Arc { to: from, room: 0, cost: Cost::default() - cost });
        EdgeId(id)
    }

    /// Units on an edge.
    pub(super) fn carried(&self, edge: EdgeId) -> u32 {
        self.arcs[edge.0 ^ 1].room
    }

    /// Sends one unit along the cheapest way, rerouting earlier ones where that is cheaper; false when there is none.
    pub(super) fn push(&mut self, source: usize, sink: usize) -> bool {
        let Some(came_by) = self.search(source, sink) else { return false };
        let mut at = sink;
        while at != source {
            let Some(arc) = came_by[at] else { return false };
            self.arcs[arc].room -= 1;
            self.arcs[arc ^ 1].room += 1;
            at = self.arcs[arc ^ 1].to;
        }
        true
    }

    /// The arc by which each vertex is reached on the cheapest way to the sink.
    fn search(&mut self, source: usize, sink: usize) -> Option<Vec<Option<usize>>> {
        let vertices = self.leaving.len();
        let mut best: Vec<Option<Cost>> = vec![None; vertices];
        let mut came_by = vec![None; vertices];
        let mut settled = Vec::new();
        let mut is_settled = vec![false; vertices];
        let mut queue = BinaryHeap::from([Reverse((Cost::default(), source))]);
        best[source] = Some(Cost::default());
        while let Some(Reverse((cost, at))) = queue.pop() {
            if std::mem::replace(&mut is_settled[at], true) {
                continue;
            }
            if at == sink {
                // Vertices not settled are at least this far, and keep their potential.
                for (vertex, distance) in settled {
                    self.potential[vertex] += distance - cost;
                }
                return Some(came_by);
            }
            settled.push((at, cost));
            for &id in &self.leaving[at] {
                let arc = &self.arcs[id];
                if arc.room == 0 || is_settled[arc.to] {
                    continue;
                }
                let reach = cost + arc.cost + self.potential[at] - self.potential[arc.to];
                if best[arc.to].is_none_or(|known| reach < known) {
                    best[arc.to] = Some(reach);
                    came_by[arc.to] = Some(id);
                    queue.push(Reverse((reach, arc.to)));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn moves(moves: i64) -> Cost {
        Cost { moves, ..Cost::default() }
    }

    #[test]
    fn an_earlier_unit_gives_way_when_that_is_cheaper() {
        // Workers 0 and 1, tasks 2 and 3, sink 4: worker 1 can do task 2 only.
        let mut flow = Flow::new(5);
        let first = flow.edge(0, 2, 1, moves(0));
        let second = flow.edge(0, 3, 1, moves(5));
        let only = flow.edge(1, 2, 1, moves(1));
        flow.edge(2, 4, 1, moves(0));
        flow.edge(3, 4, 1, moves(0));
        assert!(flow.push(0, 4));
        assert_eq!(flow.carried(first), 1);
        assert!(flow.push(1, 4));
        assert_eq!((flow.carried(first), flow.carried(second), flow.carried(only)), (0, 1, 1));
        assert!(!flow.push(1, 4), "the sink takes no more");
    }

    /// The cheapest way to give each row another column, by trying all.
    fn cheapest(costs: &[Vec<i64>], row: usize, taken: u32) -> i64 {
        if row == costs.len() {
            return 0;
        }
        let columns = (0..costs[row].len()).filter(|column| taken & (1 << column) == 0);
        columns.map(|column| costs[row][column] + cheapest(costs, row + 1, taken | 1 << column)).min().unwrap()
    }

    proptest! {
        #[test]
        fn the_result_is_as_cheap_as_exhaustive_search(
            costs in prop::collection::vec(prop::collection::vec(0_i64..20, 6), 1..6),
        ) {
            let (rows, columns) = (costs.len(), 6);
            let sink = rows + columns;
            let mut flow = Flow::new(sink + 1);
            let mut edges = Vec::new();
            for (row, line) in costs.iter().enumerate() {
                for (column, &cost) in line.iter().enumerate() {
                    edges.push((flow.edge(row, rows + column, 1, moves(cost)), cost));
                }
            }
            for column in 0..columns {
                flow.edge(rows + column, sink, 1, moves(0));
            }
            for row in 0..rows {
                prop_assert!(flow.push(row, sink));
            }
            let total: i64 = edges.iter().map(|&(edge, cost)| i64::from(flow.carried(edge)) * cost).sum();
            prop_assert_eq!(total, cheapest(&costs, 0, 0));
        }
    }
}
