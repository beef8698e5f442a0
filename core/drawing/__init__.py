"""Pictures of graphs: Mermaid, Graphviz DOT and SVG."""
