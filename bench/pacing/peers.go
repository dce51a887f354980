package main

// toldName is the pacer that was told the limiter's shape.
const toldName = "told"
