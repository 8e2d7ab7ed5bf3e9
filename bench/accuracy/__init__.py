"""Accuracy at every budget of numbers and of bytes: LeNet-5 on MNIST, this project's networks and their peers."""
