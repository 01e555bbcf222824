/// A board, its cells, links and devices, as read from YAML.
public struct BoardDescription {}
